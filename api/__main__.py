"""`python -m api` prints the OpenAPI document, which `make openapi` writes to docs/openapi.json."""

from __future__ import annotations

import json
import sys

from api.app import openapi_document

json.dump(openapi_document(), sys.stdout, ensure_ascii=False, indent=2)
sys.stdout.write("\n")
