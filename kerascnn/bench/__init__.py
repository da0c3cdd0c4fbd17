"""How fast a network trains here, against what, and what that rests on. Each variant runs in a process of its own."""
