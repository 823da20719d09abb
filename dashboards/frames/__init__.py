"""What each page draws, as pure functions of tables: one module a page. No Streamlit, no files."""
