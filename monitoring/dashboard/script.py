"""The script that Streamlit runs for each person and each of their actions."""

from monitoring.dashboard.shell import show

show()
