"""Log-mel and MFCC features of sound in integers: a numpy model, and C that computes the same bits."""
