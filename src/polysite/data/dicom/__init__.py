"""DICOM in: from a folder of files to volumes under pseudonyms.

Everything here is about files that name patients. What a file says about a person, a date or a place is read in
`header`, stays in memory, and leaves only as a keyed hash (`pseudonym`). Messages name a series or a file by its number
in the folder; ``polysite dicom PATH`` shows on the user's own screen which one that is.
"""
