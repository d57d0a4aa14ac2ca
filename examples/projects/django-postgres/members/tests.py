from django.db import IntegrityError, connection, transaction
from django.test import TestCase

from members.models import Member


class Members(TestCase):
    def test_the_database_is_postgres(self):
        self.assertEqual(connection.vendor, "postgresql")

    def test_an_address_is_there_once(self):
        Member.objects.create(email="ada@example.org", name="Ada")
        with self.assertRaises(IntegrityError), transaction.atomic():
            Member.objects.create(email="ada@example.org", name="Ada again")

    def test_an_address_is_there_once_in_any_case(self):
        Member.objects.create(email="ada@example.org", name="Ada")
        with self.assertRaises(IntegrityError), transaction.atomic():
            Member.objects.create(email="Ada@Example.org", name="Ada again")
