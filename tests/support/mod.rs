//! What several test modules share: temporary stores, a mounted mailbraid, waiting.
