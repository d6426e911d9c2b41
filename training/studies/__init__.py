"""Studies of data and models; each leaves its files in CREDIT_HOME/reports and in MLflow."""
