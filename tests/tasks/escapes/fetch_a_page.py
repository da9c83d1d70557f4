"""Fetch a page."""

import urllib.request

print("escaped", urllib.request.urlopen("http://127.0.0.1:80/", timeout=1).status)
