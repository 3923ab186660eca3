"""Reports: what happened, how good is it, and what did the energy add, in pictures and sentences?"""
