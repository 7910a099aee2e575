"""What tests share: commands as users type them, small runs, models and data."""
