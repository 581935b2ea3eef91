//! Node, peers, policy: read from the repository's git config.
