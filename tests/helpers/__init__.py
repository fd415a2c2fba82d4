"""What tests share. A helper knows no test, and no test imports another test."""
