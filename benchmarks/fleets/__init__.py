"""What benchmarks/processor.py is made of: repositories of many projects, and a DAG processor over them."""
