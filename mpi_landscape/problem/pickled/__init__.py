"""Files of torch.save, read without running what they name and without taking more memory than they account for."""
