"""Reports that read the store and write HTML and JSON; nothing here runs while requests are served."""
