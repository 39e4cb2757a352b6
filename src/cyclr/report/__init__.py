"""Pictures and reports of schedules, range tests and runs."""
