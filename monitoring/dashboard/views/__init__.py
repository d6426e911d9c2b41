"""The pages of the dashboard; each is a function of the person, the API and the words.

The folder is not named `pages`, because Streamlit would run each file of such a folder as a page of its own.
"""
