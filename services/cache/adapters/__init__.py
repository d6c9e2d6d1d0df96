"""The cache's outside: PostgreSQL, FAISS and the twins in memory."""
