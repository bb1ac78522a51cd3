"""cuda.bindings"""
