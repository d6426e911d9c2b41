"""The lender: generated applications and history that resemble Home Credit's, and the profiles they are drawn from."""
