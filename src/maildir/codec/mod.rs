//! Codecs of the index files that IMAP servers keep beside a Maildir. One file a format.
