"""Serving: releases in front of customers, with canary, promotion, monitoring and rollback."""
