"""The tables: which rows, columns and notes a study has."""
