"""Keys and certificates of a test, made with the product's own commands, once for all its pairs."""
SITE_NAME = {"a": "site-a", "b": "site-b"}
