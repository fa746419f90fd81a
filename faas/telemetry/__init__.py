"""What a node says about itself and keeps of its functions' output. See README.md."""
