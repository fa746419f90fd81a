"""Modules that many functions import: loaded once, before the fork, so that a cold start does not pay for them.

Only the standard library, nothing that starts threads, opens files or keeps state that a fork would copy.
"""

import base64 as base64
import contextlib as contextlib
import copy as copy
import csv as csv
import dataclasses as dataclasses
import datetime as datetime
import decimal as decimal
import enum as enum
import functools as functools
import gzip as gzip
import hashlib as hashlib
import hmac as hmac
import html as html
import io as io
import math as math
import operator as operator
import pathlib as pathlib
import random as random
import secrets as secrets
import shutil as shutil
import statistics as statistics
import string as string
import subprocess as subprocess
import tempfile as tempfile
import textwrap as textwrap
import typing as typing
import uuid as uuid
