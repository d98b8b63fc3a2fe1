"""What is signed: verdict, baseline, waiver, bundle seal; reading a statement back."""
