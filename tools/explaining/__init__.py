"""Parts of the explanation of a run: what it did, what is published, and what differs."""
