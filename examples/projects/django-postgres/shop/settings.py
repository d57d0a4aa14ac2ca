"""Settings: the database is the service `db`, its password is made for each run."""

import os

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "only-for-tests")
INSTALLED_APPS = ["members"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ.get("DB_HOST", "db"),
        "NAME": "postgres",
        "USER": "postgres",
        "PASSWORD": os.environ.get("DB_PASSWORD", ""),
    }
}
