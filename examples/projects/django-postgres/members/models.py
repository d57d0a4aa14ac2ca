"""Who is a member of the shop."""

from django.db import models


class Member(models.Model):
    """A member signs in by an address."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=200)
