"""Signing in: people, passwords, sessions, and the guard that lets nothing pass without one."""
