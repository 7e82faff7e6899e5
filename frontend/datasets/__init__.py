"""Data files that come with dlc; `dlc.data` reads them, and a text file beside each says where it comes from."""
