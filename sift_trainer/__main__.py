"""``python -m sift_trainer`` runs the console command ``sift-trainer``."""

import sys

from sift_trainer.commands import main

if __name__ == "__main__":
    sys.exit(main())
