import unittest

from textstats import longest_words, word_counts


class WordCounts(unittest.TestCase):
    def test_case_does_not_matter(self):
        self.assertEqual(word_counts("Tea tea")["tea"], 2)

    def test_punctuation_is_not_part_of_a_word(self):
        self.assertEqual(word_counts("Tea, or no tea? Tea!")["tea"], 3)

    def test_the_longest_word_comes_first(self):
        self.assertEqual(longest_words("a bottle, of tea", 2), ["bottle", "tea"])


if __name__ == "__main__":
    unittest.main()
