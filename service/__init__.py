"""The gallery as a service: questions of many at once, an API over HTTP, and a page."""
