"""Why a network doesn't learn: signals out of its layers."""
