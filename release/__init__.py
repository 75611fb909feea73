"""Room 8, verdict to traffic: publish, deploy, roll back; the only room that sees model, gate and proxy together."""
