"""Everything that makes the bundled starter model: pictures, questions, training, export."""
