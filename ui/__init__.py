"""Every way in: the web page and the command line."""
