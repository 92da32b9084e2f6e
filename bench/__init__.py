"""What the documentation claims about speed, measured."""
