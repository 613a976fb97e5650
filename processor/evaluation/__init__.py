"""Features of images and the evaluation made of them."""
