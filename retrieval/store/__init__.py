"""Where a gallery keeps its entries: a connection to Milvus, the spaces in it, and their rows."""
