"""Every setting of Keepwell. What an operator may change comes from the environment; docs/configuration.md lists it."""

from __future__ import annotations

from pathlib import Path

from django.utils.csp import CSP

from config import __version__
from config.database import EMBEDDED, ENGINES, database_settings, engine, is_postgresql
from config.env import env_bool, env_choice, env_int, env_list, env_path, env_secret, env_str, env_url
from config.secret_key import data_folder, secret_key

KEEPWELL_VERSION = __version__
BASE_DIR = Path(__file__).resolve().parent.parent

# --- What the operator sets ---------------------------------------------------------------------------------------

KEEPWELL_DATA = data_folder(env_path("KEEPWELL_DATA", BASE_DIR / "data"))
KEEPWELL_BIND = env_str("KEEPWELL_BIND", "127.0.0.1")
KEEPWELL_PORT = env_int("KEEPWELL_PORT", 8000, minimum=1, maximum=65535)
# How many runs are executed at the same time.
KEEPWELL_WORKERS = env_int("KEEPWELL_WORKERS", 4, minimum=1, maximum=64)
# Whose runs this host's workers take: names of queues; jobs that name none are in the queue "default".
KEEPWELL_QUEUES = env_list("KEEPWELL_QUEUES") or ["default"]
# How long a run is known to be alive after its process last said so: what another host waits before it calls it lost.
KEEPWELL_LEASE_SECONDS = env_int("KEEPWELL_LEASE_SECONDS", 60, minimum=6, maximum=3600)
KEEPWELL_LOG_LEVEL = env_choice("KEEPWELL_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))

DEBUG = env_bool("KEEPWELL_DEBUG", False)
SECRET_KEY = env_secret("KEEPWELL_SECRET_KEY") or secret_key(KEEPWELL_DATA / "secret_key")

_public = env_url("KEEPWELL_URL")
# Where people reach Keepwell, without a trailing slash: links in what it prints and sends start with it.
KEEPWELL_URL = f"{_public.scheme}://{_public.netloc}" if _public else f"http://localhost:{KEEPWELL_PORT}"
_https = KEEPWELL_URL.startswith("https://")

ALLOWED_HOSTS = [
    "localhost",
    "127.0.0.1",
    "[::1]",
    *([KEEPWELL_BIND] if KEEPWELL_BIND not in ("0.0.0.0", "::", "127.0.0.1", "localhost") else []),  # noqa: S104 (compared, not bound)
    *([_public.hostname] if _public and _public.hostname else []),
    *env_list("KEEPWELL_ALLOWED_HOSTS"),
]
CSRF_TRUSTED_ORIGINS = [KEEPWELL_URL] if _public else []

# --- The application ----------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "config",
    "accounts",
    "maintenance",
    "backups",
    "scheduling",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_apscheduler",
    "django_htmx",
    "lucide",
    "ninja",  # for the files of its API page, so that it needs no other origin
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.middleware.SignInRequiredMiddleware",
    "config.time_zone.OptionsTimeZoneMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "config.context_processors.frame",
            ],
        },
    },
]

# --- Records ------------------------------------------------------------------------------------------------------

# No ATOMIC_REQUESTS: on SQLite every request would then take the one write lock.
DATABASES = {"default": database_settings(env_secret("DATABASE_URL"), KEEPWELL_DATA / "keepwell.sqlite3")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Who tells the workers of a queued run: their own look at the ledger, or messages of Procrastinate as well.
KEEPWELL_ENGINE = engine(env_choice("KEEPWELL_ENGINE", EMBEDDED, ENGINES), DATABASES["default"])
if is_postgresql(DATABASES["default"]):  # its migrations are PostgreSQL's own
    INSTALLED_APPS.insert(INSTALLED_APPS.index("django_htmx"), "procrastinate.contrib.django")
# Its tasks are known to the workers alone: whoever records a run names them.
PROCRASTINATE_AUTODISCOVER_MODULE_NAME = ""

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
USE_I18N = False

# --- Files --------------------------------------------------------------------------------------------------------

STATIC_URL = "static/"
STATIC_ROOT = KEEPWELL_DATA / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "config.static.CollectedStaticFiles"},
}
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = DEBUG or not (STATIC_ROOT / "staticfiles.json").is_file()

# --- People and safety --------------------------------------------------------------------------------------------

LOGIN_URL = "accounts:login"
LOGIN_REDIRECT_URL = "dashboard"
LOGOUT_REDIRECT_URL = "accounts:login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

SESSION_COOKIE_NAME = "keepwell_session"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = _https
CSRF_COOKIE_NAME = "keepwell_csrf"
CSRF_FAILURE_VIEW = "accounts.views.csrf_failure"
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SECURE = _https

X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_CSP = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF],
    "style-src": [CSP.SELF],
    "img-src": [CSP.SELF],
    "font-src": [CSP.SELF],
    "connect-src": [CSP.SELF],
    "form-action": [CSP.SELF],
    "manifest-src": [CSP.SELF],
    "base-uri": [CSP.NONE],
    "frame-ancestors": [CSP.NONE],
}

# --- Logging: plain lines on stderr, for the terminal, journald or a container's log ------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": KEEPWELL_LOG_LEVEL},
    "loggers": {
        # Django adds a mail handler and a debug-only console handler of its own; one handler is enough.
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        # A page that was refused or not found is the visitor's business, and no traceback for the operator's log.
        "django.request": {"level": "ERROR"},
        "django.server": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "apscheduler": {"level": "WARNING"},
        # Every message that has to wait is an error to it, with a traceback; the ledger says what became of a run.
        "procrastinate": {"level": "CRITICAL"},
        "psycopg.pool": {"level": "ERROR"},
    },
}
