"""What the llama.cpp engine is made of: the library, its server, words, pictures and threads."""
