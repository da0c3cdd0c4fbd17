"""A whole network in torch's own functions, and its optimizer by torch's fused kernel."""
