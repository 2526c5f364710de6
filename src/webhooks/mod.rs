//! Webhooks: the outbox delivered, signed, in order, again and again until it is taken or visibly dead.
