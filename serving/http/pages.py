"""The pages that the service answers itself."""

# BentoML serves the files of Swagger UI. This page replaces BentoML's own, which loads a tracker.
DOCS_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Credit scoring</title><link rel="stylesheet" href="static_content/swagger-ui.css"></head>
<body><div id="swagger-ui"></div><script src="static_content/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "docs.json", dom_id: "#swagger-ui", deepLinking: true})</script></body>
</html>
"""
