"""A server of a toy model, for the tests of a file."""

import pytest

from tests.support import server


@pytest.fixture(scope="module")
def address(one_device):
  with server.served() as (_, url):
    yield url


@pytest.fixture
def web(address):
  with server.client(address) as client:
    yield client
