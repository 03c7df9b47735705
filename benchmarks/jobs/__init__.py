"""One job on several engines: every site adds 1 to an array, the server averages; a file for each engine."""
