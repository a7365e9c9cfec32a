"""``python -m englishroom.cli``"""

import sys

from englishroom.cli import main

sys.exit(main())
