"""Imports what this Python does not have."""

import a_vendor_sdk_that_is_not_installed
