"""What tests share: real processes, stand-ins, fixtures. No test is in here."""
