package org.example;

import static org.junit.Assert.assertEquals;

import java.util.List;
import org.junit.Test;

public class CsvTest {
    @Test
    public void fieldsArePartedByCommas() {
        assertEquals(List.of("a", "", "b"), Csv.fields("a,,b"));
    }

    @Test
    public void aCommaInQuotesIsPartOfItsField() {
        assertEquals(List.of("tea, black", "2"), Csv.fields("\"tea, black\",2"));
    }

    @Test
    public void twoQuotesInQuotesAreOne() {
        assertEquals(List.of("a \"b\" c"), Csv.fields("\"a \"\"b\"\" c\""));
    }
}
