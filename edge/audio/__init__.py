"""Where sound comes in: files, microphones, and the blocks they are cut into."""
