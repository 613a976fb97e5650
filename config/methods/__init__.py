"""The keys that belong to one method, with its defaults and its checks across keys."""
